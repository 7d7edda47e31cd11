"""Prices of GPUs and of energy: those of the catalog, of a file, and given by hand."""

import re
from pathlib import Path

import pytest

from fastsim import Deployment, load_workload, resolve, simulate
from fastsim.catalog.load import load_device, names
from fastsim.catalog.prices import listed
from fastsim.cli import run
from fastsim.deployment.prices import load
from fastsim.errors import ConfigError
from fastsim.files import DATA
from fastsim.result.result import Result

FILE = """
currency: EUR
dollars: 1.25
gpus:
  h100: {per_hour: 2, kind: spot, cloud: mine, interruptions_per_hour: 0.5, date: 2026-11-01, source: a contract}
  nvidia-a100-sxm4-80gb: 1.2
  h200: [{per_hour: 4}, {per_hour: 3, kind: reserved}]
energy: {per_kwh: 0.2, grams_co2_per_kwh: 400, source: a bill, date: 2026}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "prices.yaml"
    path.write_text(FILE)
    return str(path)


def test_every_price_that_ships_has_a_source_and_a_date() -> None:
    assert set(listed()) <= set(names("devices"))
    for offers in listed().values():
        for price in offers:
            assert price.source and re.fullmatch(r"20\d\d(-\d\d)?", price.date or "")
            assert price.currency == "USD" and 0 < price.dollars == price.per_hour
    assert load(DATA / "catalog" / "prices.yaml").gpus.keys() == listed().keys()
    assert {price.kind for price in listed()["h100"]} == {"on_demand", "reserved", "spot"}


def test_the_catalog_takes_the_first_price() -> None:
    for name in names("devices"):
        price = resolve(Deployment(model="Qwen2.5-0.5B", device=name)).price
        assert (price and price.dollars) == load_device(name).price_per_hour


@pytest.mark.parametrize(
    ("changes", "dollars", "kind", "cloud"),
    [
        (["device=h100"], 4.25, "on_demand", None),
        (["device=h100", "prices.dollars_per_hour=h100=2.10"], 2.10, "on_demand", None),
        (["device=h100", "prices.dollars_per_hour=h200=2.10"], 4.25, "on_demand", None),
        (["device=h100", "prices.kind=spot"], 0.81, "spot", "runpod"),
        (["device=h100", "prices.cloud=runpod"], 2.69, "on_demand", "runpod"),
        (["device=h100", "prices=FILE"], 2.5, "spot", "mine"),
        (["device=h100", "prices.file=FILE", "prices.cloud=coreweave"], 1.79, "reserved", "coreweave"),
        (["device=h100", "prices.file=FILE", "prices.dollars_per_hour=h100=9,a100=1"], 9.0, "on_demand", None),
        (["device=a100", "prices.file=FILE"], 1.5, "on_demand", None),
        (["device=h200", "prices.file=FILE"], 5.0, "on_demand", None),
        (["device=h200", "prices.file=FILE", "prices.kind=reserved"], 3.75, "reserved", None),
    ],
)
def test_the_price_that_counts(changes: list[str], dollars: float, kind: str, cloud: str | None, file: str) -> None:
    price = resolve(Deployment.load(None, [change.replace("FILE", file) for change in changes])).price
    assert price is not None
    assert price.dollars == pytest.approx(dollars)
    assert (price.kind, price.cloud) == (kind, cloud)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("prices.dollars_per_hour=h101=2", "prices.dollars_per_hour: 'h101' is unknown; valid: a100"),
        ("prices.dollars_per_hour=h100=x", "'x' for 'h100' is no number of dollars (e.g. h100=2.10)"),
        ("prices.dollars_per_hour=h100=-1", "'-1' for 'h100' is no number of dollars (e.g. h100=2.10)"),
        ("prices.cloud=azure", "no price of h100 is of azure (valid: on_demand, on_demand of runpod, reserved of"),
        ("prices=nothere.yaml", "prices: nothere.yaml: no such file"),
        ("prices={currency: EUR, gpus: {h100: 2}}", "prices.dollars: missing; say what one EUR is worth in dollars"),
        ("prices={gpus: {h100: 0}}", "0 is not a number above 0 up to 1e6 (e.g. 2.5)"),
        ("prices={energy: {per_kwh: -1}}", "-1 is not a number from 0 up to 1e3 (e.g. 0.12)"),
        ("prices.currency=euro", "'euro' is not three capital letters (e.g. EUR)"),
    ],
)
def test_impossible_prices_are_refused(change: str, said: str) -> None:
    with pytest.raises(ConfigError) as told:
        resolve(Deployment.load(None, [change]))
    assert said in str(told.value)


def test_results_name_the_price_and_what_energy_costs(file: str, tmp_path: Path) -> None:
    requests = load_workload("chat", num_requests=50)
    dear = simulate(None, requests, prices=file)
    cheap = simulate(None, requests)
    hours, cost = cheap.summary["totals"]["span_s"] / 3600, dear.summary["cost"]
    assert cost["dollars"] == pytest.approx(2.5 * hours)
    assert cost["interruptions"] == pytest.approx(0.5 * hours)
    kwh = cheap.summary["energy"]["kwh"]
    assert dear.summary["energy"]["dollars"] == pytest.approx(kwh * 0.2 * 1.25)
    assert dear.summary["energy"]["kg_co2"] == pytest.approx(kwh * 0.4)
    price = dear.config["price"]
    assert (price["currency"], price["per_hour"], price["date"], price["source"]) == (
        "EUR",
        2.0,
        "2026-11-01",
        "a contract",
    )
    assert cheap.config["price"]["source"] == "Vidur paper (arXiv 2405.05465), 2024"
    assert "2 EUR per GPU and hour, spot of mine: a contract" in dear.summary["definitions"]["cost.dollars"]
    assert cheap.summary["energy"].keys() == {"kwh", "watts", "joules_per_output_token"}
    dear.save(tmp_path / "run")
    Path(file).unlink()  # the result holds the prices
    again = simulate(str(tmp_path / "run" / "config.json"), str(tmp_path / "run" / "requests.parquet"))
    assert again.summary["cost"] == cost
    assert Result.load(tmp_path / "run").config["price"] == price


def test_commands_take_prices(file: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "chat", "--requests", "30", "--prices", file, "--quiet"]) == 0
    shown = capfd.readouterr().out
    for words in ("Price       $2.50, 2 EUR per GPU", "interruptions expected in this run", "kg of CO2"):
        assert words in shown
    few = ["--requests", "30", "--gpu", "h100", "--rate", "2", "--replicates", "0"]
    assert run(["fleet", *few, "--prices", file, "--price", "h100=1"]) == 0
    assert "1  h100   1         1    1.00" in capfd.readouterr().out
