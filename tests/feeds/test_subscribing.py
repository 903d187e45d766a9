"""What a connection asked for, played against an exchange that answers by the rules of a test."""

import math
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketprism.clock import HOUR, SECOND, Timestamp
from marketprism.feeds.commands import Command, Rules
from marketprism.feeds.subscribing import Subscriptions

ANSWER_WITHIN = 10 * SECOND
RULES = Rules(batch=100, answer_within=ANSWER_WITHIN, refused_retry=300.0, an_hour=14_400)


@attrs.define
class Exchange:
    """It answers each command a moment after it was sent, in their order; time is the test's."""

    subscriptions: Subscriptions[str]
    bad: set[str] = attrs.field(factory=set)
    """What it refuses."""
    passes: bool = False
    """Whether a refusal is one that passes."""
    down: bool = False
    """It refuses everything, for now."""
    names: bool = True
    """It says which command it refuses."""
    answers: Callable[[Command[str]], bool] = lambda _command: True
    now: float = 0.0
    said: list[Command[str]] = attrs.field(factory=list)
    live: dict[str, float] = attrs.field(factory=dict)
    """Since when."""
    parked: set[str] = attrs.field(factory=set)
    unheard: set[str] = attrs.field(factory=set)

    @property
    def moment(self) -> Timestamp:
        nanoseconds = round(self.now * SECOND)
        return Timestamp(nanoseconds, nanoseconds)

    def ask(self, *topics: str) -> None:
        self.say(self.subscriptions.subscribe(topics, self.moment))

    def say(self, commands: list[Command[str]]) -> None:
        """Four commands a second, each answered before the next is sent."""
        queue = list(commands)
        while queue:
            command = queue.pop(0)
            self.now += 0.25
            self.said.append(command)
            self.subscriptions.sent(command.number, self.moment)
            if not command.topics or not self.answers(command):
                continue
            topics = list(command.topics)
            if not command.leaving and (self.down or self.bad & set(topics)):
                number = command.number if self.names else None
                passes = self.passes or self.down
                self.parked.update(self.subscriptions.refused(number, self.moment, passes=passes))
            else:
                for topic in self.subscriptions.granted(command.number) or ():
                    self.live[topic] = self.now
                    self.parked.discard(topic)
            queue += self.subscriptions.proceed(self.moment)

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 0.25
            due = self.subscriptions.tick(self.moment)
            self.unheard.update(due.unheard)
            self.say(due.commands)


def exchange(rules: Rules = RULES, **changes: Any) -> Exchange:
    """One that has been asked nothing yet."""
    return Exchange(Subscriptions("test/0", rules), **changes)


def names(count: int) -> list[str]:
    """So many topics."""
    return [f"t{number}" for number in range(count)]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("count", [1, 2, 60, 95, 200])
def test_one_bad_topic_costs_nobody_else_and_few_commands(count: int, named: bool) -> None:
    """The halves of a refused batch are asked for until the one to blame is alone."""
    topics = names(count)
    bad = topics[count // 3]
    line = exchange(bad={bad}, names=named)
    line.ask(*topics)
    assert set(line.live) == set(topics) - {bad}
    assert line.parked == {bad}
    most = math.ceil(count / RULES.batch) + 2 * math.ceil(math.log2(count))
    assert len(line.said) <= most
    assert line.now <= 10


@given(
    count=st.integers(1, 150),
    bad=st.sets(st.integers(0, 149), max_size=6),
    named=st.booleans(),
    batch=st.integers(1, 100),
)
def test_several_bad_topics_cost_as_many_times_as_much(
    count: int, bad: set[int], named: bool, batch: int
) -> None:
    """Whatever is refused, all else is live at once."""
    topics = names(count)
    refused = {f"t{number}" for number in bad if number < count}
    line = exchange(attrs.evolve(RULES, batch=batch), bad=refused, names=named)
    line.ask(*topics)
    assert set(line.live) == set(topics) - refused
    assert line.parked == refused
    least = math.ceil(count / batch)
    assert len(line.said) <= least + len(refused) * 2 * math.ceil(math.log2(count))


def test_what_is_refused_is_asked_for_again_soon_and_then_slowly() -> None:
    """Half a minute after the first refusal, then every `refused_retry`, together."""
    line = exchange(bad={"t1", "t2", "t3"})
    line.ask(*names(10))
    first = len(line.said)
    line.wait(31)
    second = len(line.said)
    assert second > first
    line.wait(200)
    assert len(line.said) == second, "slowly"
    line.wait(120)
    third = len(line.said)
    assert third > second
    line.bad.clear()
    line.wait(331)
    assert set(line.live) == set(names(10))
    assert not line.subscriptions.unconfirmed


def test_retries_keep_within_a_tenth_of_the_hour() -> None:
    """Where the exchange counts topics, many refused ones wait for their turn."""
    rules = attrs.evolve(RULES, an_hour=480, counts_topics=True, spared=120, refused_retry=60.0)
    line = exchange(rules, bad=set(names(30)))
    line.ask(*names(30))
    asked = sum(len(command.topics) for command in line.said)
    line.wait(HOUR / SECOND - line.now)
    retried = sum(len(command.topics) for command in line.said) - asked
    assert 0 < retried <= 48


def test_a_refusal_that_passes_holds_all_back_behind_one() -> None:
    """While the exchange cannot, one topic asks for all; when it can, all are live soon."""
    line = exchange(down=True)
    line.ask(*names(40))
    assert line.parked == set(names(40))
    line.wait(92)
    assert all(len(command.topics) == 1 for command in line.said[1:])
    assert len(line.said) <= 20
    line.down = False
    back = line.now
    line.wait(20)
    assert set(line.live) == set(names(40))
    assert max(line.live.values()) - back <= 16


def test_one_that_is_refused_as_if_it_passed_blocks_no_other() -> None:
    """A code may say that it passes and mean a single topic: that one alone is left out."""
    line = exchange(bad={"t7"}, passes=True)
    line.ask(*names(40))
    line.wait(15)
    assert set(line.live) == set(names(40)) - {"t7"}
    line.wait(60)
    line.bad.clear()
    line.wait(16)
    assert "t7" in line.live


def test_waiting_in_our_own_queue_is_no_silence_of_the_exchange() -> None:
    """The time for an answer runs from when the command was sent."""
    line = exchange()
    (command,) = line.subscriptions.subscribe(["t0"], line.moment)
    line.wait(60)
    assert not line.unheard
    assert not line.said
    line.say([command])
    assert "t0" in line.live


def test_what_is_not_answered_is_asked_for_again_and_then_puts_the_connection_in_doubt() -> None:
    """Once more, then it is unheard; those that were answered are left in peace."""
    line = exchange(answers=lambda command: "t0" not in command.topics)
    line.ask("t0", "t1")
    line.ask("t2")
    line.wait(9)
    assert len(line.said) == 2
    line.wait(2)
    assert [command.topics for command in line.said[2:]] == [["t0", "t1"]]
    assert not line.unheard
    line.wait(11)
    assert line.unheard == {"t0", "t1"}
    assert set(line.live) == {"t2"}


def test_what_speaks_is_confirmed_whatever_became_of_its_acknowledgement() -> None:
    """Nothing is asked for again, and nobody is in doubt; an answer that comes late is no news."""
    line = exchange(answers=lambda command: False)
    line.ask("t0", "t1")
    assert line.subscriptions.heard("t0")
    assert not line.subscriptions.heard("t0")
    assert line.subscriptions.heard("t1")
    line.wait(60)
    assert len(line.said) == 1
    assert not line.unheard
    assert line.subscriptions.granted(line.said[0].number) == []
    assert line.subscriptions.granted(99) is None


def test_a_silent_one_of_a_lost_acknowledgement_is_asked_for_again_alone() -> None:
    """Its neighbours have spoken."""
    line = exchange(answers=lambda command: len(command.topics) == 1)
    line.ask("t0", "t1")
    line.subscriptions.heard("t0")
    line.wait(11)
    assert [command.topics for command in line.said[1:]] == [["t1"]]
    assert "t1" in line.live


def test_an_answer_by_topic_confirms_that_topic() -> None:
    """One of two is named: the other is asked for again, by itself, when its time is over."""
    line = exchange(answers=lambda command: False)
    line.ask("t0", "t1")
    assert line.subscriptions.accepted("t0")
    line.wait(11)
    assert [command.topics for command in line.said[1:]] == [["t1"]]


def test_a_refusal_by_topic_is_that_topics_alone() -> None:
    """What was asked for with it is answered by itself."""
    line = exchange(answers=lambda command: False)
    line.ask("t0", "t1")
    assert line.subscriptions.refused_topic("t1", line.moment, passes=False)
    assert line.subscriptions.accepted("t0")
    assert set(line.subscriptions.unconfirmed) == {"t1"}
    assert not line.subscriptions.refused_topic("t9", line.moment, passes=False)


def test_many_renewals_are_two_commands() -> None:
    """Twenty streams that fall silent at once flood nobody's queue."""
    line = exchange()
    line.ask(*names(40))
    for topic in names(20):
        line.subscriptions.renew(topic)
    line.wait(1)
    leaving, asking = line.said[1:]
    assert (leaving.leaving, asking.leaving) == (True, False)
    assert leaving.topics == asking.topics == names(20)


def test_what_was_left_is_not_asked_for_again() -> None:
    """A refusal that comes late of a topic that is another connection's by now changes nothing."""
    line = exchange(answers=lambda command: False)
    line.ask("t0", "t1")
    line.subscriptions.forget("t0")
    assert line.subscriptions.refused(1, line.moment, passes=False) == ["t1"]
    line.wait(120)
    assert all("t0" not in command.topics for command in line.said[1:])


def test_topics_by_themselves_have_their_own_commands_and_hold_up_nobody() -> None:
    """A book's command may wait long for its snapshot's turn."""
    line = exchange()
    line.subscriptions = Subscriptions("test/0", RULES, lambda topic: topic.startswith("book"))
    commands = line.subscriptions.subscribe(["t0", "book0", "t1", "book1"], line.moment)
    assert [command.topics for command in commands] == [["t0", "t1"], ["book0"], ["book1"]]
    line.bad = {"t1", "book1"}
    line.say([commands[0], commands[2]])
    line.wait(40)
    assert set(line.live) == {"t0"}
    assert {command.topics[0] for command in line.said[-2:]} == {"t1", "book1"}


def renewing(line: Exchange) -> tuple[Command[str], Command[str]]:
    """A renewal of one topic that was sent, and not answered."""
    line.ask("t0", "t1")
    line.answers = lambda command: False
    line.subscriptions.renew("t0")
    line.wait(2)
    leave, join = line.said[-2:]
    assert (leave.leaving, join.leaving) == (True, False)
    return leave, join


def test_what_is_heard_while_it_is_being_left_confirms_nothing() -> None:
    """It is of the subscription before; when its time is over, it is of whatever there is."""
    line = exchange()
    leave, join = renewing(line)
    assert line.subscriptions.leaving("t0")
    assert not line.subscriptions.leaving("t1")
    assert not line.subscriptions.heard("t0")
    assert line.subscriptions.granted(leave.number) == []
    assert not line.subscriptions.leaving("t0")
    assert line.subscriptions.heard("t0")
    assert line.subscriptions.granted(join.number) == []
    line = exchange()
    renewing(line)
    line.wait(11)
    assert not line.subscriptions.leaving("t0")
    assert line.subscriptions.heard("t0")


@pytest.mark.parametrize("by_name", [True, False])
def test_an_answer_to_what_follows_shows_that_it_is_left(*, by_name: bool) -> None:
    """Its own answer is lost, or comes later."""
    line = exchange()
    leave, join = renewing(line)
    if by_name:
        assert line.subscriptions.accepted("t0")
        line.subscriptions.left("t0")
    else:
        assert line.subscriptions.granted(join.number) == ["t0"]
        assert line.subscriptions.granted(leave.number) == []
    assert not line.subscriptions.leaving("t0")
    assert not line.subscriptions.unconfirmed
    line.wait(30)
    assert line.said[-1] is join


def test_a_topic_that_is_asked_for_twice_stands_with_the_second_acceptance() -> None:
    """The first is of what is left between them."""
    line = exchange(answers=lambda command: False)
    line.ask("t0")
    line.say(line.subscriptions.unsubscribe(["t0"], line.moment))
    line.ask("t0")
    assert not line.subscriptions.accepted("t0")
    assert line.subscriptions.leaving("t0")
    line.subscriptions.left("t0")
    assert line.subscriptions.accepted("t0")


def test_a_topic_that_speaks_before_it_is_renewed_is_spared() -> None:
    """Neither left nor asked for."""
    line = exchange()
    line.ask("t0", "t1")
    for topic in ("t0", "t1"):
        line.subscriptions.renew(topic)
    line.subscriptions.cancel_renewal("t0")
    line.wait(2)
    assert [command.topics for command in line.said[1:]] == [["t1"], ["t1"]]


def test_one_asks_for_all_as_long_as_there_are_operations() -> None:
    """An hour in which the exchange cannot does not use up what it allows."""
    rules = attrs.evolve(RULES, an_hour=470, counts_topics=True, spared=120)
    line = exchange(rules, down=True)
    line.ask(*names(200))
    line.wait(3590)
    asked = sum(len(command.topics) for command in line.said)
    assert 400 < asked < 470
    line.wait(3600)
    line.down = False
    line.wait(31)
    assert set(line.live) == set(names(200))
