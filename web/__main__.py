"""`python -m web`: nothing is defined here, because a module run as a script exists twice."""

from web.wiring import main

main()
