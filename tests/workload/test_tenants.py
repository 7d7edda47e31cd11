"""Tenants, priorities and ends: files keep their columns, and descriptions mix the requests of several tenants."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from laws import exponential, far
from streams import FIXED, POISSON, file

import fastsim
from fastsim.cli import cli
from fastsim.errors import ConfigError, WorkloadError
from fastsim.workload import Workload
from fastsim.workload.loading import load
from fastsim.workload.write import save

FIRST = "arrived_at,num_prompt_tokens,num_output_tokens,"


def small(**more: Any) -> Workload:
    return Workload(np.arange(3.0), np.full(3, 5), np.full(3, 2), **more)


def test_files_keep_tenants_and_priorities(tmp_path: Path) -> None:
    names = np.array(["batch", 'a "quoted", name', "007: nan"])
    stream = small(tenant=names, priority=np.array([2, -1, 2], np.int32))
    for suffix in ("csv", "parquet", "jsonl"):
        save(stream, tmp_path / f"w.{suffix}")
        back = load(tmp_path / f"w.{suffix}")
        assert back.digest == stream.digest
        assert back.tenant is not None and back.tenant.tolist() == names.tolist()
    said = "the requests have priorities, but are admitted in order of arrival"
    assert said in fastsim.simulate(None, stream).summary["warnings"][0]
    by_priority = fastsim.Deployment.load(None, ["scheduling_policy=priority"])
    assert fastsim.simulate(by_priority, stream).summary["warnings"] == []
    taken = stream.take(np.array([0, 2]))
    assert taken.priority is not None and taken.priority.tolist() == [2, 2]
    assert taken.notes == ()
    shorter = small(tenant=np.array(["a", "b", "c"])).head(2).digest
    assert shorter == small(tenant=np.array(["a", "b", "a longer name"])).head(2).digest != small().head(2).digest


def test_refused_columns(tmp_path: Path) -> None:
    with pytest.raises(
        WorkloadError, match=r"data row 2: priority: 1\.5 is not a priority, of which lower ones go fir"
    ):
        load(file(tmp_path, f"{FIRST}priority\n0,5,5,1\n1,5,5,1.5\n"))
    with pytest.raises(WorkloadError, match="data row 1: priority: 'high' is not a number"):
        load(file(tmp_path, f"{FIRST}priority\n0,5,5,high\n"))
    with pytest.raises(WorkloadError, match=r"data row 2: tenant: 'xxxx.* is not a name of at most 100 printable"):
        load(file(tmp_path, f"{FIRST}tenant\n0,5,5,a\n1,5,5,{'x' * 101}\n"))
    empty = load(file(tmp_path, f"{FIRST}tenant\n0,5,5,a\n1,5,5,\n"))
    assert empty.tenant is not None and empty.tenant.tolist() == ["a", ""]
    with pytest.raises(WorkloadError, match="tenant is of type int64, not names"):
        small(tenant=np.arange(3))


def test_files_keep_how_requests_end(tmp_path: Path) -> None:
    stream = small(max_tokens=np.array([2, 100, 7]), ends_by_stop=np.array([False, True, False]))
    for suffix in ("csv", "parquet", "jsonl"):
        save(stream, tmp_path / f"w.{suffix}")
        back = load(tmp_path / f"w.{suffix}")
        assert back.digest == stream.digest
        assert back.ends_by_stop is not None and back.ends_by_stop.tolist() == [False, True, False]
    assert (stream.describe()["max_tokens"], stream.describe()["ends_by_stop"]) == (7.0, 1 / 3)
    said = CliRunner().invoke(cli, ["trace", "describe", str(tmp_path / "w.csv")]).stdout
    assert "Ends: 33.3 % of requests by a stop token; max_tokens is 7 in the median" in said
    taken = stream.take(np.array([1, 2])).with_users(1)
    assert taken.max_tokens is not None and taken.max_tokens.tolist() == [100, 7]
    assert taken.digest != small(max_tokens=stream.max_tokens).take(np.array([1, 2])).with_users(1).digest
    ends = "max_tokens,ends_by_stop\n"
    empty = load(file(tmp_path, f"{FIRST}{ends}0,5,5,,True\n1,5,5,,false\n1,5,5,9,\n1,5,5,5,\n1,0,0,,x\n"))
    assert empty.max_tokens is not None and empty.max_tokens.tolist() == [10_000_000, 5, 9, 5]
    assert empty.ends_by_stop is not None and empty.ends_by_stop.tolist() == [True, False, True, False]
    line = '{"arrived_at":0,"num_prompt_tokens":5,"num_output_tokens":6,"ends_by_stop":%s}\n'
    mixed = load(file(tmp_path, line % "true" + line % "0" + line % "null", "w.jsonl"))
    assert mixed.max_tokens is None and mixed.ends_by_stop is not None
    assert mixed.ends_by_stop.tolist() == [True, False, False]


REFUSED_ENDS = [
    (
        "max_tokens\n0,5,0,9\n0,5,5,9\n1,5,5,4\n",
        "data row 3: max_tokens: 4 is below the request's output of 5 tokens (e.g. 5)",
    ),
    ("max_tokens\n0,5,5,9.5\n", "data row 1: max_tokens: 9.5 is not a whole number of tokens from 1 to 10,000,000"),
    ("max_tokens\n0,5,5,all\n", "data row 1: max_tokens: 'all' is not a number (e.g. 512)"),
    ("ends_by_stop\n0,5,5,true\n1,5,5,length\n", "data row 2: ends_by_stop: 'length' is not true or false (e.g. true)"),
    ("ends_by_stop\n0,5,5,1\n1,5,5,2\n", "data row 2: ends_by_stop: 2 is not true or false (e.g. true)"),
]


@pytest.mark.parametrize(("rows", "said"), REFUSED_ENDS)
def test_refused_ends(tmp_path: Path, rows: str, said: str) -> None:
    path = file(tmp_path, FIRST + rows)
    with pytest.raises(WorkloadError, match="^" + re.escape(f"{path}: {said}")):
        load(path)


def test_refused_arrays_of_ends() -> None:
    with pytest.raises(WorkloadError, match=r"workload: data row 1: max_tokens: 1 is below the request's output of 2"):
        small(max_tokens=np.ones(3, np.int64))
    with pytest.raises(WorkloadError, match="workload: ends_by_stop has 2 values and arrived_at 3"):
        small(ends_by_stop=np.ones(2, bool))
    with pytest.raises(WorkloadError, match="ends_by_stop is of type <U1, not numbers"):
        small(ends_by_stop=np.array(["a", "b", "c"]))


TENANTS: list[dict[str, Any]] = [
    {"name": "interactive", "share": 3, "priority": -1, "sessions": {"turns": 3, "think_time": 2.0}},
    {"name": "batch", "share": 1, "lengths": FIXED | {"num_prompt_tokens": 4000}, "gaps": {"kind": "gamma", "cv": 3.0}},
    {"name": "retrieval", "share": 2, "prefix": {"kind": "system_prompt", "num_tokens": 64}},
]
MIXED: dict[str, Any] = {"lengths": FIXED, "gaps": POISSON, "tenants": TENANTS, "num_requests": 30_000, "seed": 2}


def test_shares_of_tenants() -> None:
    stream = load(MIXED)
    assert stream.tenant is not None and stream.priority is not None and stream.block_hashes is not None
    assert stream.session_id is not None
    assert stream.rate == pytest.approx(2.0, rel=0.03)
    for tenant, share in zip(TENANTS, (1 / 2, 1 / 6, 1 / 3), strict=True):
        of = stream.tenant == tenant["name"]
        assert of.mean() == pytest.approx(share, rel=0.06)
        assert set(stream.priority[of]) == {tenant.get("priority", 0)}
    batch, interactive = stream.tenant == "batch", stream.tenant == "interactive"
    assert set(stream.num_prompt_tokens[batch]) == {4000}
    gaps = np.diff(stream.arrived_at[batch])
    assert gaps.std() / gaps.mean() == pytest.approx(3.0, rel=0.1)
    assert (np.bincount(np.unique(stream.session_id[interactive], return_inverse=True)[1])[:-1] == 3).mean() > 0.999
    assert len(np.unique(stream.session_id[~interactive])) == (~interactive).sum()
    assert not set(stream.session_id[interactive]) & set(stream.session_id[~interactive])
    shared = {tuple(stream.block_hashes[int(row)][:4]) for row in np.flatnonzero(stream.tenant == "retrieval")}
    others = {value for row in np.flatnonzero(interactive) for value in stream.block_hashes[int(row)].tolist()}
    assert len(shared) == 1 and not others & set(next(iter(shared)))


def test_a_longer_mixture_begins_with_the_shorter_one() -> None:
    long = load(MIXED | {"num_requests": 900})
    for number in (1, 2, 7, 400):
        assert load(MIXED | {"num_requests": number}).digest == long.head(number).digest
    rates = [{key: value for key, value in tenant.items() if key != "share"} | {"rate": 3.0} for tenant in TENANTS]
    assert load(MIXED | {"tenants": rates}, rate=2.0).rate == pytest.approx(2.0, rel=0.03)
    assert load(MIXED | {"tenants": rates}).rate == pytest.approx(9.0, rel=0.03)


def test_poisson_streams_make_a_poisson_stream() -> None:
    tenants = [{"name": "a", "rate": 1.5}, {"name": "b", "gaps": {"kind": "poisson", "rate": 0.5}}]
    stream = load({"lengths": FIXED, "tenants": tenants, "num_requests": 20_000})
    assert stream.priority is None and stream.session_id is None and stream.block_hashes is None
    assert far(2 * np.diff(stream.arrived_at), exponential) < 1.95
    one = load({"lengths": FIXED, "tenants": [TENANTS[2], TENANTS[0] | {"share": 0}], "gaps": POISSON})
    assert one.tenant is not None and set(one.tenant) == {"retrieval"}


LOOP = {"kind": "closed_loop", "concurrency": 8, "think_time": {"kind": "exponential", "mean": 2.0}, "ramp_up": 10}


def chains(stream: Workload, tenant: str) -> list[list[int]]:
    """The rows of each user of a tenant."""
    assert stream.tenant is not None and stream.session_id is not None
    rows = np.flatnonzero(stream.tenant == tenant)
    return [rows[stream.session_id[rows] == user].tolist() for user in np.unique(stream.session_id[rows])]


def test_tenants_with_users_beside_tenants_with_a_rate() -> None:
    tenants = [
        {"name": "open", "share": 2},
        {"name": "loop", "share": 1, "gaps": LOOP},
        {"name": "chats", "share": 1, "concurrency": 3, "sessions": {"turns": 4, "think_time": 5.0}},
    ]
    stream = load({"lengths": FIXED, "gaps": POISSON, "tenants": tenants, "num_requests": 400})
    assert stream.tenant is not None and stream.think_time is not None and stream.block_hashes is not None
    assert [np.count_nonzero(stream.tenant == name) for name in ("open", "loop", "chats")] == [200, 100, 100]
    known = stream.arrived_at[~np.isnan(stream.arrived_at)]
    assert (np.diff(known) >= 0).all()
    arrivals = stream.arrived_at[stream.tenant == "open"]
    assert len(arrivals) / arrivals[-1] == pytest.approx(2.0, rel=0.2)
    for tenant, users in (("loop", 8), ("chats", 3)):
        of_users = chains(stream, tenant)
        assert len(of_users) == users
        for rows in of_users:
            assert not np.isnan(stream.arrived_at[rows[0]]) and np.isnan(stream.think_time[rows[0]])
            assert np.isnan(stream.arrived_at[rows[1:]]).all() and not np.isnan(stream.think_time[rows[1:]]).any()
            assert np.mean(rows) == pytest.approx(200, abs=40)
    firsts = [stream.arrived_at[rows[0]] for rows in chains(stream, "loop")]
    assert firsts == [10 / 8 * user for user in range(8)]
    mine = chains(stream, "chats")[1]
    think = [0.0 if turn % 4 == 0 else 5.0 for turn in range(1, len(mine))]
    assert stream.think_time[mine[1:]].tolist() == think
    half = load({"lengths": FIXED, "gaps": POISSON, "tenants": tenants, "num_requests": 400}, rate=1.0)
    np.testing.assert_allclose(half.arrived_at[half.tenant == "open"], 2 * arrivals)


def test_tenants_that_all_have_users() -> None:
    each = [{"name": "a", "gaps": LOOP}, {"name": "b", "concurrency": 24}]
    stream = load({"lengths": FIXED, "tenants": each, "num_requests": 100})
    assert stream.tenant is not None
    assert [np.count_nonzero(stream.tenant == name) for name in "ab"] == [25, 75]
    assert (stream.is_loop, stream.max_concurrency, stream.rate) == (True, 32, None)
    shared = [{"name": "a", "share": 3}, {"name": "b", "share": 1}, {"name": "c", "share": 0}]
    stream = load({"lengths": FIXED, "concurrency": 8, "tenants": shared, "num_requests": 100})
    assert stream.tenant is not None
    assert [np.count_nonzero(stream.tenant == name) for name in "abc"] == [75, 25, 0]
    assert [len(chains(stream, name)) for name in "ab"] == [6, 2]
    one = [{"name": "a", "share": 3, "gaps": {"kind": "static", "rate": 4.0}}, {"name": "b", "share": 1}]
    mixed = load({"lengths": FIXED, "concurrency": 2, "tenants": one, "num_requests": 100})
    assert mixed.tenant is not None and not mixed.is_loop
    assert mixed.arrived_at[mixed.tenant == "a"].tolist() == [(row + 1) / 4 for row in range(75)]


REFUSED: list[tuple[Any, str]] = [
    ([], "tenants: [] is not a list of 1 to 1,000 tenants (e.g. name: interactive, share: 1)"),
    ("x", "tenants: 'x' is not a list of 1 to 1,000 tenants"),
    (["x"], "tenants[0]: 'x' is not a group of settings"),
    ([{"share": 1}], "tenants[0].name: missing (e.g. interactive)"),
    ([{"name": "a"}], "tenants[0]: how many of the requests it sends is missing (e.g. share: 0.5, or rate: 2.0)"),
    ([{"name": "a", "share": 0}], "tenants: the shares sum to 0; give one of them above 0 (e.g. 1)"),
    ([{"name": "a", "share": -1}], "tenants[0].share: -1 is not a number from 0 to 1e9 (e.g. 0.5)"),
    ([{"name": "a", "rate": -1}], "tenants[0].rate: -1 is not requests per second from 1e-9"),
    (
        [{"name": "a", "share": 1}, {"name": "b", "rate": 1}],
        "tenants[1]: where one tenant has a share, all tenants need a share",
    ),
    ([{"name": "a", "share": 1}, {"name": "a", "share": 1}], "tenants[1].name: 'a' is there twice; rename one"),
    ([{"name": "a", "share": 1, "seed": 1}], "tenants[0].seed: belongs beside tenants, not in one of them"),
    ([{"name": "a", "share": 1, "lenghts": FIXED}], "tenants[0].lenghts: unknown key; did you mean 'lengths'?"),
    ([{"name": "a", "share": 1, "priority": 0.5}], "tenants[0].priority: 0.5 is not a whole number (e.g. 0)"),
    ([{"name": "a", "share": 1, "lengths": {"kind": "x"}}], "tenants[0].lengths.kind: 'x' is unknown"),
    (
        [{"name": "a", "rate": 1, "gaps": {"kind": "closed_loop", "concurrency": 2}}],
        "tenants[0].rate: 1 cannot be given to users who wait; change concurrency",
    ),
    (
        [{"name": "a", "rate": 1}, {"name": "b", "concurrency": 2}],
        "tenants[0]: beside users who wait for their answers, all tenants need a share, and no rate (e.g. share: 0.5)",
    ),
    ([{"name": "a", "concurrency": 0}], "tenants[0].gaps.concurrency: 0 is not a whole number of users from 1"),
]


@pytest.mark.parametrize(("tenants", "said"), REFUSED)
def test_refused_tenants(tenants: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as refused:
        load({"lengths": FIXED, "gaps": POISSON, "tenants": tenants})
    assert "\n" not in str(refused.value)


def test_users_that_are_refused() -> None:
    shared = [{"name": "a", "share": 3}, {"name": "b", "share": 1}]
    with pytest.raises(ConfigError, match=r"gaps.concurrency: 1 users are too few for 2 tenants \(e.g. 2\)"):
        load({"lengths": FIXED, "concurrency": 1, "tenants": shared})
    with pytest.raises(ConfigError, match=r"tenants: rate: 2 cannot be given to users who wait for their answers"):
        load({"lengths": FIXED, "concurrency": 4, "tenants": shared}, rate=2.0)
    with pytest.raises(
        ConfigError, match=r"tenants\[0\]: beside users who wait for their answers, all tenants need a sh"
    ):
        load({"lengths": FIXED, "concurrency": 4, "tenants": [{"name": "a"}, {"name": "b"}]})
    static = [{"name": "a", "share": 3, "gaps": {"kind": "static"}}, {"name": "b", "share": 1}]
    with pytest.raises(
        ConfigError, match=r"tenants\[0\].gaps: a tenant beside the users of a closed loop needs a rate"
    ):
        load({"lengths": FIXED, "concurrency": 4, "tenants": static})
