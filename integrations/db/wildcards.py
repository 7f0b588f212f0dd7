"""Patterns as people write them, with `*` for anything, as patterns of SQL's LIKE, whose escape is a backslash."""


def like(wildcards: str) -> str:
    for special in ("\\", "%", "_"):
        wildcards = wildcards.replace(special, f"\\{special}")
    return wildcards.replace("*", "%")
