"""The contract of one entry, from the first consent to the end of the grant."""

from integrations.domain.errors import NotReadyError
from integrations.providers.entry import Provider
from starters.contract import capabilities, consent, refusals, renewal
from starters.contract.addresses import moved
from starters.contract.dialect import speak, strictness
from starters.contract.facts import facts
from starters.contract.outcome import Check, Outcome, State
from starters.contract.samples import NoSampleError, samples
from starters.contract.stage import Stage, UnspeakableError
from starters.contract.trial import CannotGoOnError, Trial
from starters.contract.visitor import Visitor

STEPS = (
    ("consent", consent.consent),
    ("grants", consent.grants),
    ("identity", consent.identity),
    ("capabilities", capabilities.capabilities),
    ("refresh", renewal.renewal),
    ("troubles", refusals.troubles),
    ("a wrong client secret", refusals.registration),
    ("the grant's end", refusals.endings),
)


async def contract(entry: Provider, stage: Stage, visitor: Visitor, *, spoken: Provider | None = None) -> Outcome:
    """Check an entry against a simulator that speaks as it says, or as another entry says."""
    found = [*facts(entry)]
    try:
        trial = await _trial(entry, stage, visitor, spoken or entry)
    except (NoSampleError, UnspeakableError) as error:
        found.append(Check(name="dialect", state=State.FAILED, expected="the simulator can speak it", heard=str(error)))
        return Outcome(id=entry.id, name=entry.name, checks=tuple(found))
    reached = await _through(trial)
    missed = [Check(name=name, state=State.NOT_REACHED) for name, _ in STEPS[reached:]]
    return Outcome(id=entry.id, name=entry.name, checks=(*found, *trial.checks, *missed))


async def _trial(entry: Provider, stage: Stage, visitor: Visitor, spoken: Provider) -> Trial:
    told = samples(spoken.variables)
    dialect = speak(spoken, told, stage.credentials.client_id)
    await stage.speak(dialect, strictness(spoken))
    # What has a default is left to it, as by whoever adds a connection.
    given = {name: v for name, v in entry.told_by("connection").items() if v.default is None and name in told}
    values = {name: value for name, v in given.items() if (value := v.read(told[name])) is not None}
    return Trial(moved(entry, stage.url), dialect, stage, visitor, values)


async def _through(trial: Trial) -> int:
    """Go through the steps; how many were begun."""
    for number, (name, step) in enumerate(STEPS, start=1):
        try:
            await step(trial)
        except CannotGoOnError:
            return number
        except NotReadyError as error:
            trial.says(
                name, False, expected="every address is complete by then", heard=str(error), correct=["variables"]
            )
            return number
    return len(STEPS)
