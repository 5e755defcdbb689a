"""The lease: at no time may two runs write, whatever pauses, dies, or is slow."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from longattn.etl.tables import lease as module
from longattn.etl.tables.lease import DeltaRegister, Holder, Lease, LeaseLostError, this_process
from longattn.udfs.errors import TableError

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
    """Three runs and one register; each run sees time through a clock of its own zero."""

    @initialize(offsets=st.lists(st.integers(0, 10**6), min_size=3, max_size=3))
    def begin(self, offsets: list[int]) -> None:
        self.now, self.register = 0.0, Memory()
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
    def somebody_asks(self, name: str) -> None:
        if not self.may_write(name):
            self.quietly(self.leases[name].take)

    @rule(name=st.sampled_from(NAMES))
    def a_thread_beats(self, name: str) -> None:
        if self.has_taken(name):
            self.quietly(self.leases[name].renew)

    @rule(name=st.sampled_from(NAMES))
    def a_run_ends(self, name: str) -> None:
        if self.has_taken(name):
            self.quietly(lambda: self.leases[name].release({}))

    @rule(name=st.sampled_from(NAMES), offset=st.integers(0, 10**6))
    def a_process_is_killed_and_started_again(self, name: str, offset: int) -> None:
        self.leases[name] = self.claim(name, offset)
        self.leases[name].me = replace(self.leases[name].me, token=f"{name}{self.now}")

    @rule(away=st.booleans(), lost=st.booleans())
    def the_store_changes(self, away: bool, lost: bool) -> None:
        self.register.away, self.register.answers_are_lost = away, lost

    @invariant()
    def one_at_most_may_write(self) -> None:
        assert sum(map(self.may_write, getattr(self, "leases", ()))) <= 1

    def may_write(self, name: str) -> bool:
        try:
            self.leases[name].check()
        except LeaseLostError:
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
