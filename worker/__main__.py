"""`python -m worker`: nothing is defined here, because a module run as a script exists twice."""

from worker.wiring import main

main()
