"""Where to run: named ways to get workers, and what a worker keeps. Knows no astronomy."""
