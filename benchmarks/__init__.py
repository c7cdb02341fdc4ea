"""Every figure that Soundloom claims, measured: one script a claim, each with `main() -> list[dict]`, a row a figure.

`python -m benchmarks` runs them all, `python -m benchmarks bank codec` some; both write docs/benchmarks.{json,md}.
"""
