"""The lease: at no time may two runs write, whatever pauses, dies, or is slow."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from longattn.etl.tables import lease as module
from longattn.etl.tables.lease import DeltaRegister, Holder, Lease, is_gone, this_process
from longattn.udfs.errors import LeaseLostError, TableError

SECONDS = 60.0
LENGTHS = {"a": SECONDS, "b": SECONDS, "c": 15.0}  # a config may set it otherwise
NAMES = list(LENGTHS)


class Memory:
    """A register as the protocol says, and nothing else; can be out of reach."""

    def __init__(self) -> None:
        self.version, self.value = 0, None
        self.away = self.answers_are_lost = False

    def read(self) -> tuple[int, Holder | None]:
        if self.away:
            raise OSError("away")
        return self.version, self.value

    def write(self, version: int, holder: Holder) -> bool:
        if self.away:
            raise OSError("away")
        if version != self.version:
            return False
        self.version, self.value = version + 1, holder
        if self.answers_are_lost:
            raise OSError("the answer was lost")
        return True


class LeaseMachine(RuleBasedStateMachine):
    """Three runs, one register and one table; each sees time through a clock of its own zero.

    A commit is a look at the table's version, a question to the lease, and, any time later, the
    commit against that version. The process may have been killed or replaced meanwhile.
    """

    @initialize(offsets=st.lists(st.integers(0, 10**6), min_size=3, max_size=3))
    def begin(self, offsets: list[int]) -> None:
        self.now, self.register = 0.0, Memory()
        self.version, self.takes = 0, 0
        self.under_way: list[tuple[str, int, int]] = []  # who, version seen, takes by then
        self.leases = {
            name: self.claim(name, offset) for name, offset in zip(NAMES, offsets, strict=True)
        }

    def claim(self, name: str, offset: float) -> Lease:
        me = Holder(token=name, job=name, run_id=name)
        return Lease(self.register, me, LENGTHS[name], lambda: self.now + offset)

    @rule(seconds=st.sampled_from([0.1, 5, 15, 30, 59.9, 60, 61, 200]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=st.sampled_from(NAMES))
    def somebody_asks_or_begins_a_commit(self, name: str) -> None:
        seen = self.version
        if self.may_write(name):
            self.under_way.append((name, seen, self.takes))
        else:
            self.quietly(lambda: self.take(self.leases[name]))

    def take(self, lease: Lease) -> None:
        if lease.take() is None:
            self.takes += 1
            self.version += not lease.in_order  # the fence

    @rule(late=st.integers(0, 10))
    def a_commit_comes_to_its_end(self, late: int) -> None:
        if self.under_way:
            _, seen, takes = self.under_way.pop(late % len(self.under_way))
            if seen == self.version:
                self.version += 1
                assert takes == self.takes, "a commit of a run that had lost the root"

    @rule()
    def the_register_is_deleted(self) -> None:
        self.register.version, self.register.value = 0, None

    @rule(name=st.sampled_from(NAMES))
    def a_thread_beats(self, name: str) -> None:
        if self.has_taken(name):
            self.quietly(self.leases[name].renew)

    @rule(name=st.sampled_from(NAMES))
    def a_run_ends(self, name: str) -> None:
        if self.has_taken(name):
            self.leases[name].in_order = True  # it fenced the table when it took the root
            self.under_way = [commit for commit in self.under_way if commit[0] != name]
            self.quietly(lambda: self.leases[name].release({}))

    @rule(name=st.sampled_from(NAMES), offset=st.integers(0, 10**6))
    def a_process_is_killed_and_started_again(self, name: str, offset: int) -> None:
        self.leases[name] = self.claim(name, offset)
        self.leases[name].me = replace(self.leases[name].me, token=f"{name}{self.now}")

    @rule(state=st.sampled_from([*[(False, False)] * 6, (True, False), (False, True)]))
    def the_store_changes(self, state: tuple[bool, bool]) -> None:
        self.register.away, self.register.answers_are_lost = state

    @invariant()
    def one_at_most_may_write(self) -> None:
        assert sum(map(self.may_write, getattr(self, "leases", ()))) <= 1

    def may_write(self, name: str) -> bool:
        try:
            self.leases[name].check()
        except (LeaseLostError, OSError):
            return False
        return True

    def has_taken(self, name: str) -> bool:
        return self.leases[name]._version >= 0

    def quietly(self, act: Any) -> None:
        try:
            act()
        except OSError:
            assert self.register.away or self.register.answers_are_lost


LeaseMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestLeaseAgainstAModel = LeaseMachine.TestCase


@pytest.mark.parametrize("loses_it_by", ["sleeping", "its lease deleted"])
@pytest.mark.parametrize("fenced", [True, False])
def test_only_the_fence_keeps_a_late_commit_out(loses_it_by: str, fenced: bool) -> None:
    model = LeaseMachine()
    model.begin([0, 0, 0])
    for name in ("a", "a", "b"):
        model.somebody_asks_or_begins_a_commit(name)
    if loses_it_by == "sleeping":
        model.time_passes(61)
    else:
        model.the_register_is_deleted()
    model.somebody_asks_or_begins_a_commit("b")
    assert model.may_write("b") and model.takes == 2
    if fenced:
        model.a_commit_comes_to_its_end(0)
    else:
        model.version -= 1
        with pytest.raises(AssertionError, match="had lost the root"):
            model.a_commit_comes_to_its_end(0)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def claim(register: Any, name: str, clock: Clock, **of_process: Any) -> Lease:
    return Lease(register, Holder(token=name, job=name, run_id=name, **of_process), SECONDS, clock)


@pytest.fixture
def register(tmp_path: Path) -> DeltaRegister:
    return DeltaRegister(str(tmp_path / "_lease"))


def test_the_next_takes_a_root_that_was_given_back_and_knows_its_tables(
    register: DeltaRegister,
) -> None:
    clock = Clock()
    first, second = claim(register, "first", clock), claim(register, "second", clock)
    assert first.take() is None
    holder = second.take()
    assert holder and holder.job == "first"
    first.release({"scores": 7})
    assert second.take() is None
    assert second.known == {"scores": 7} and second.took_over is None
    with pytest.raises(LeaseLostError):
        first.check()


def test_a_renewal_says_how_far_the_run_is_and_giving_back_does_not(
    register: DeltaRegister,
) -> None:
    done = iter(range(10))
    me = Holder(token="a", job="score", run_id="a")
    lease = Lease(register, me, SECONDS, Clock(), lambda: {"done": next(done)})
    assert lease.take() is None
    for beats in range(2):
        lease.renew()
        held = register.read()[1]
        assert held and held.progress == {"done": beats}
    lease.release({})
    free = register.read()[1]
    assert free and free.progress is None


def test_a_silent_holder_is_dead_after_the_lease_and_not_before(register: DeltaRegister) -> None:
    clock = Clock()
    first, second = claim(register, "first", clock), claim(register, "second", clock)
    assert first.take() is None and second.take() is not None
    clock.now = 30
    first.renew()
    clock.now = SECONDS + 1
    assert second.take() is not None  # it has renewed meanwhile
    clock.now = 2 * SECONDS + 1
    assert second.take() is None and second.took_over and second.took_over.job == "first"
    first.renew()
    with pytest.raises(LeaseLostError):
        first.check()
    second.check()


def test_a_process_that_has_ended_is_dead_at_once(register: DeltaRegister) -> None:
    ended = this_process() | {"born": "1"}
    assert claim(register, "ended", Clock(), **ended).take() is None
    assert claim(register, "next", Clock()).take() is None


def test_a_process_of_another_machine_is_not_judged_by_its_number(register: DeltaRegister) -> None:
    elsewhere = this_process() | {"born": "1", "machine": "elsewhere/boot/pid"}
    assert claim(register, "elsewhere", Clock(), **elsewhere).take() is None
    assert claim(register, "next", Clock()).take() is not None


def test_of_many_at_once_one_takes_the_root(tmp_path: Path) -> None:
    """The register is not there yet: eight make it and take it in the same moment."""
    gate, taken = threading.Barrier(8), []

    def ask(name: str) -> None:
        lease = claim(DeltaRegister(str(tmp_path / "_lease")), name, Clock())
        gate.wait()
        if lease.take() is None:
            taken.append(name)

    threads = [threading.Thread(target=ask, args=(str(i),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1


def test_a_register_whose_last_word_is_lost_is_refused(
    register: DeltaRegister, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert claim(register, "first", Clock()).take() is None
    monkeypatch.setattr(module, "commit_info", lambda *_: None)
    with pytest.raises(TableError, match="delete this folder"):
        register.read()


def test_a_register_of_another_version_is_called_so(
    register: DeltaRegister, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert claim(register, "first", Clock()).take() is None
    for value, said in [
        (
            '{"token": "a", "job": "b", "run_id": "c", "mood": 1}',
            "another version.*unknown mood",
        ),
        ('{"token": "a"}', "does not name who holds"),
        ("{", "does not name who holds"),
    ]:
        monkeypatch.setattr(module, "commit_info", lambda *_, value=value: {"lease": value})
        with pytest.raises(TableError, match=said):
            register.read()


@pytest.mark.parametrize(
    ("answer", "gone"), [(PermissionError, False), (ProcessLookupError, True), (None, False)]
)
def test_a_process_that_proc_hides_is_asked_for(
    answer: type[OSError] | None, gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """hidepid=2 shows no entry of another user's process."""

    def kill(_pid: int, _signal: int) -> None:
        if answer:
            raise answer

    hidden = Holder(token="a", job="a", run_id="a", **this_process())  # type: ignore[arg-type]
    monkeypatch.setattr(module, "_born", lambda _pid: None)
    monkeypatch.setattr(module.os, "kill", kill)
    assert is_gone(hidden) is gone


def test_who_holds_a_lease_that_was_deleted_writes_no_more(register: DeltaRegister) -> None:
    clock = Clock()
    first, second = claim(register, "first", clock), claim(register, "second", clock)
    assert first.take() is None
    shutil.rmtree(register.location)
    with pytest.raises(LeaseLostError, match="deleted"):
        first.check()
    assert second.take() is None and not second.in_order  # it will fence the tables
    with pytest.raises(LeaseLostError, match="second"):
        first.check()
    assert second.number() > first.number()
    second.release({})  # before it could
    third = claim(register, "third", clock)
    assert third.take() is None and not third.in_order
    third.in_order = True  # it has
    third.release({})
    assert second.take() is None and second.in_order


def test_each_holder_numbers_its_commits_above_the_last(register: DeltaRegister) -> None:
    numbers = []
    for name in ("first", "second"):
        lease = claim(register, name, Clock())
        assert lease.take() is None
        numbers += [lease.number(), lease.number()]
        lease.release({})
    assert numbers == sorted(set(numbers)) and numbers[-1] < 1 << 63
