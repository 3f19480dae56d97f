"""Leads a study: asks for points, lends cards, judges rungs. The trials themselves are somebody
else's (``Executor``), and so are the clock and the database, so that a study of hours can be
played in seconds."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from unet_dist.search.ending import budget_used, how_it_ended, in_doubt, refuse_broken
from unet_dist.search.executor import Event, Executor, Failed, Left, Reached, Store
from unet_dist.search.leases import Cards
from unet_dist.search.points import next_point
from unet_dist.search.queue import most_new, new_ones, wanting_cards
from unet_dist.search.rungs import KEPT, Halving, copied, exchange, first_rung_of
from unet_dist.search.setbacks import after_failure, bad_cards_at
from unet_dist.search.trials import OVER, RungResult, State, Study, Trial


@dataclass(kw_only=True)
class Controller:
    study: Study
    rungs: tuple[int, ...]
    cards: Cards
    executor: Executor
    store: Store
    stopped: Callable[[], bool]
    """Whether the user asks for the end."""
    host: str = "here"
    """Whose cards they are, for trials that avoid a bad one."""
    on_change: Callable[["Controller"], None] = lambda controller: None
    name: Callable[[Trial], str] = lambda trial: trial.name
    """What a person knows a trial by."""
    note: Callable[..., None] = lambda kind, **facts: None
    """Writes one line of the timeline."""
    mine: set[int] = field(default_factory=set)
    """Trials that run here."""
    lost: set[int] = field(default_factory=set)
    """Those of them that others have taken over; their ranks were asked to stop."""
    exhausted: bool = False
    """No point is left (a grid)."""
    why_over: str = ""
    failed_by_input: bool = False
    """A trial of this start did; what failed before it may be mended."""

    @property
    def halving(self) -> Halving:
        reduction = self.study.spec.algorithm.reduction
        return Halving(rungs=self.rungs, reduction=reduction, ranking=self.study.ranking)

    def run(self) -> str:
        """Until the study is over or somebody stops it; why.

        Raises:
            StudyBroken: no trial can work.
        """
        self._take_up_again()
        while True:
            self._refresh()
            self._let_go()
            if not self.why_over:
                self.why_over = "stopped" if self.stopped() else budget_used(self.study)
                if self.why_over:
                    for number in sorted(self.mine):
                        self.executor.stop(number)
            if not self.why_over and not self._waits_for_those_that_run():
                self._start_what_fits()
            self.on_change(self)
            if not self.mine and (self.why_over or not self._work_left()):
                return self.why_over or how_it_ended(self.study, self.cards, self.halving)
            for event in self.executor.events():
                self._handle(event)

    def _waits_for_those_that_run(self) -> bool:
        """Whether the base may be broken; raises StudyBroken if none is left that could tell."""
        if not self.failed_by_input:
            return False
        refuse_broken(self.study)
        return in_doubt(self.study)

    def drain(self) -> None:
        """Hears what trials that were asked to stop have to say."""
        self.why_over = self.why_over or "stopped"
        for event in self.executor.events():
            self._handle(event)

    # What is known

    def trial(self, number: int) -> Trial:
        return self.study.trials[number]

    def _refresh(self) -> None:
        kept = {number: self.trial(number) for number in self.mine}
        # An earlier start may have asked for more than this one.
        asked_for = self.store.load()[: self.study.spec.budget.trials]
        trials = [kept.get(trial.number, trial) for trial in asked_for]
        self.study = replace(self.study, trials=tuple(trials), clock_s=self.store.clock_s())

    def _let_go(self) -> None:
        """The store takes no word of trials that are lost, so their ranks only have to leave."""
        lost = self.store.lost()
        for number in sorted(lost - self.lost):
            self.executor.stop(number)
        self.lost = lost

    def _put(self, trial: Trial) -> None:
        self.study = replace(self.study, trials=self._with(trial))
        self.store.save(trial)

    def _width(self, trial: Trial) -> int:
        """Cards for its next rung."""
        return self.study.spec.cards_of(trial.params, len(trial.results))

    def _take_up_again(self) -> None:
        """What failures of the infrastructure ended before this start: by now the card may be
        mended, or the disk have space."""
        self._refresh()
        for trial in self.study.trials:
            if trial.state is State.FAILED_INFRASTRUCTURE and self.store.claim(trial):
                self._put(
                    replace(trial, state=trial.at_rest(self.rungs[-1]), tries=0, not_before_s=0.0)
                )

    # Whether anything is left to do

    def _work_left(self) -> bool:
        # What another controller has may come back, or be promoted.
        elsewhere = any(trial.state is State.RUNNING for trial in self.study.trials)
        return elsewhere or bool(self._wanting()) or self._may_create()

    def _wanting(self) -> list[Trial]:
        """Trials that want cards and could get them, once others have left."""
        wanting = [(self._width(t), t) for t in wanting_cards(self.study, self.halving)]
        possible = {width for width in {w for w, _ in wanting} if self.cards.possible(width)}
        return [trial for width, trial in wanting if width in possible]

    def _startable(self) -> list[Trial]:
        """Those of them that need not wait for what failed to be mended."""
        return [t for t in self._wanting() if t.not_before_s <= self.study.clock_s]

    def _may_create(self) -> bool:
        widths = self.study.spec.widths()
        left = len(self.study.trials) < self.study.spec.budget.trials
        return left and not self.exhausted and any(map(self.cards.possible, widths))

    # What starts

    def _start_what_fits(self) -> None:
        head, startable = self.cards.waiting, self._startable()
        if head is not None and head not in {trial.number for trial in startable}:
            self.cards.give_up(head)
        asked: set[int] = set()
        while True:
            for trial in startable:
                if trial.number not in asked:
                    asked.add(trial.number)
                    if self._started(trial):
                        break
            else:
                if not self._created():
                    return
            startable = self._startable()

    def _started(self, trial: Trial) -> bool:
        """Whether anything became of it, so that others are to be looked at anew."""
        width = self._width(trial)
        if refusal := self.executor.refusal(trial, width):
            self.cards.give_up(trial.number)
            if self.store.claim(trial):
                self._put(replace(trial, state=State.REFUSED, reason=refusal))
            return True
        until = self.rungs[len(trial.results)]
        epochs, bad = until - trial.epochs, bad_cards_at(trial, self.host)
        lease = self.cards.take(trial.number, width, epochs=epochs, without=bad)
        if lease is None:
            return False
        if not self.store.claim(trial):
            self.cards.end(trial.number)
            self._refresh()  # another controller was faster, and knows more
            return True
        self.mine.add(trial.number)
        running = replace(
            trial, state=State.RUNNING, granted=until, width=width, leased_at_s=self.study.clock_s
        )
        self._put(running)
        self._note("lease", trial.number, cards=lease.cards, until_epoch=until)
        self.executor.start(running, lease, until_epoch=until)
        return True

    def _created(self) -> bool:
        """Makes a new trial if one may wait for the cards that are free."""
        new = [t for t in new_ones(self.study.trials) if self.cards.possible(self._width(t))]
        if not self._may_create() or not self.cards.free() or len(new) >= most_new(self.study):
            return False
        trial = self._new_trial(len(self.study.trials))
        if trial is None:
            self.exhausted = True
            return False
        if self.store.create(trial):
            self.study = replace(self.study, trials=(*self.study.trials, trial))
        else:
            self._refresh()  # the number is another controller's, and so is its point
        return True

    def _new_trial(self, number: int) -> Trial | None:
        point = next_point(self.study, number)
        if point is None:
            return None
        rung = first_rung_of(self.study.spec.algorithm, number, len(self.rungs))
        return Trial(number=number, params=point, first_rung=rung)

    # What follows

    def _handle(self, event: Event) -> None:
        if event.trial not in self.mine:
            return  # it left before its last words were heard
        trial = self.trial(event.trial)
        match event:
            case Reached():
                self._judge(trial, event)
            case Left():
                self._left(trial)
            case Failed():
                self._failed(trial, event)

    def _judge(self, trial: Trial, event: Reached) -> None:
        """Keeps the result of a rung, and says whether the trial goes on: all of it in one word to
        the store, before the ranks hear of it."""
        result = RungResult(
            epoch=event.epoch,
            metrics=event.metrics,
            clock_s=self.store.clock_s(),
            params=trial.params,
        )
        trial = trial.with_result(result)
        self.cards.worked(trial.number)
        self.study = replace(self.study, trials=self._with(trial))
        final, goes_on = event.epoch == self.rungs[-1], False
        if not final:
            trial, goes_on = self._judged(trial)
        self._put(trial)
        self._note("rung", trial.number, epoch=event.epoch, metrics=event.metrics)
        if goes_on:
            self.executor.go_on(trial.number, until_epoch=trial.granted)
        elif not final:
            self.executor.pause(trial.number)

    def _with(self, trial: Trial) -> tuple[Trial, ...]:
        trials = list(self.study.trials)
        trials[trial.number] = trial
        return tuple(trials)

    def _judged(self, trial: Trial) -> tuple[Trial, bool]:
        """The trial after the answer, and whether it goes on at once on the cards that it has."""
        spec = self.study.spec
        if spec.algorithm.schedule == "population":
            keep = frozenset(key for key in spec.space if key.startswith(KEPT))
            chosen = exchange(
                trial, self.study.trials, spec.searched, self.study.ranking,
                seed=spec.seed, keep=keep,
            )  # fmt: skip
            if chosen is not None:
                return copied(trial, chosen), False
            behind = [
                t for t in self.study.trials if t.state not in OVER and t.epochs < trial.epochs
            ]
            goes_on = not self._may_create() and all(t.state is State.RUNNING for t in behind)
        else:
            goes_on = self.halving.goes_on(trial, self.study.trials)
        # A rung is where a trial makes place for a wide one at little cost; it is promoted later.
        keeps = self._width(trial) == trial.width and not self.cards.wanted(trial.number)
        if not goes_on or self.why_over or not keeps:
            return trial, False
        until = self.rungs[len(trial.results)]
        self.cards.go_on(trial.number, until - trial.epochs)
        return replace(trial, granted=until), True

    def _left(self, trial: Trial) -> None:
        state = trial.at_rest(self.rungs[-1])
        if state is State.WAITING and not self.why_over:
            # Nobody asked it to leave before its rung.
            event = Failed(
                trial=trial.number,
                state=State.FAILED_INFRASTRUCTURE,
                reason="its ranks left without a result",
                blames_card=False,
            )
            self._failed(trial, event)
        else:
            self._give_back(replace(trial, state=state))

    def _failed(self, trial: Trial, event: Failed) -> None:
        after = after_failure(
            trial, event, final_epoch=self.rungs[-1], host=self.host,
            cards=self.cards.leases[trial.number].cards, clock_s=self.store.clock_s(),
        )  # fmt: skip
        self.failed_by_input |= after.state is State.FAILED_USER
        infrastructure = event.state is State.FAILED_INFRASTRUCTURE
        if infrastructure and event.blames_card and after.state is not State.COMPLETE:
            self.cards.fail(trial.number, event.card)
            self._put_down(after)
        else:
            self._give_back(after)

    def _give_back(self, trial: Trial) -> None:
        self.cards.end(trial.number)
        self._put_down(trial)

    def _put_down(self, trial: Trial) -> None:
        """The trial, whose cards are free, is whoever's wants it next."""
        used_s = trial.used_s(self.store.clock_s())
        self._put(replace(trial, card_s=used_s, leased_at_s=None))
        self.mine.remove(trial.number)
        self._note("free", trial.number, state=trial.state.value, reason=trial.reason)

    def _note(self, kind: str, trial: int, **facts: object) -> None:
        self.note(kind, trial=trial, clock_s=self.store.clock_s(), **facts)
