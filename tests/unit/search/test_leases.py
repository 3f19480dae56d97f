from unet_dist.search.leases import Cards, anywhere, in_rings_of_four


def test_all_that_a_trial_needs_or_nothing() -> None:
    cards = Cards(number=4)
    first = cards.take(0, 3)
    assert first is not None
    assert len(first.cards) == 3
    assert cards.take(1, 2) is None
    assert cards.take(2, 1) is not None
    assert cards.free() == []
    cards.end(0)
    assert len(cards.free()) == 3


def test_a_910a_wants_cards_of_one_ring() -> None:
    assert in_rings_of_four((0, 3))
    assert not in_rings_of_four((3, 4))
    assert not in_rings_of_four((0, 1, 2))
    assert in_rings_of_four(range(8))
    assert not in_rings_of_four((0, 1, 2, 3, 4, 5))
    cards = Cards(number=8, fits=in_rings_of_four)
    taken = [cards.take(trial, 1) for trial in (0, 1)]
    # The second one leaves the other ring whole.
    assert {card for lease in taken if lease for card in lease.cards} <= set(range(4))
    wide = cards.take(2, 4)
    assert wide is not None
    assert set(wide.cards) == {4, 5, 6, 7}
    assert not cards.possible(3)
    assert not cards.possible(16)


def test_a_trial_never_spans_servers() -> None:
    cards = Cards(number=16, fits=anywhere)
    assert cards.possible(8)
    assert not cards.possible(9)
    for trial in range(2):
        lease = cards.take(trial, 5)
        assert lease is not None
        assert len({card // 8 for card in lease.cards}) == 1


def test_a_wide_trial_gets_its_cards_though_narrow_ones_keep_coming() -> None:
    cards, trial = Cards(number=4, patience=3), 100
    for number in range(4):
        assert cards.take(number, 1)
    passed = 0
    for number in range(40):
        cards.end(number % 4 if number < 4 else 100 + number - 4)
        if cards.take(99, 4) is not None:
            break
        if cards.take(trial, 1) is not None:
            trial, passed = trial + 1, passed + 1
    assert cards.leases[99].cards == (0, 1, 2, 3)
    assert passed <= 3


def test_short_trials_fill_reserved_cards_only_as_long_as_a_longer_one_holds_others() -> None:
    cards = Cards(number=4, patience=0)
    assert cards.take(0, 1, epochs=18)
    for _ in range(2):
        assert cards.take(99, 4, epochs=3) is None
    assert cards.take(1, 1, epochs=18) is None
    assert cards.take(2, 1, epochs=3)
    assert cards.wanted(0)
    cards.end(0)
    # Only the three epochs of trial 2 are waited for now.
    assert cards.take(3, 1, epochs=3) is None
    cards.go_on(2, 6)
    assert cards.take(3, 1, epochs=3)
    cards.end(2)
    cards.end(3)
    assert cards.take(4, 1, epochs=1) is None
    assert cards.take(99, 4, epochs=3)


def test_a_trial_makes_place_only_for_a_wider_one() -> None:
    for width in (1, 2):
        cards = Cards(number=2, patience=0)
        assert cards.take(0, 1)
        assert cards.take(1, 1)
        for _ in range(2):
            assert cards.take(2, width) is None
        assert any(map(cards.wanted, (0, 1))) == (width == 2)


def test_a_card_that_fails_twice_is_set_aside() -> None:
    cards = Cards(number=4)
    for trial in (0, 1):
        lease = cards.take(trial, 2)
        assert lease is not None
        assert 0 in lease.cards
        cards.fail(trial, 0)
    assert cards.aside == {0}
    assert cards.free() == [1, 2, 3]
    assert not cards.possible(4)


def test_the_same_trial_twice_and_a_result_in_between_prove_nothing() -> None:
    cards = Cards(number=1)
    for _ in range(3):
        cards.take(0, 1)
        cards.fail(0, None)
    assert cards.aside == set()
    cards.take(1, 1)
    cards.worked(1)
    cards.end(1)
    cards.take(2, 1)
    cards.fail(2, None)
    assert cards.aside == set()
    # An end without a result speaks neither for the card nor against it.
    cards.take(3, 1)
    cards.end(3)
    assert cards.aside == set()
    cards.take(4, 1)
    cards.fail(4, None)
    assert cards.aside == {0}


def test_a_trial_that_failed_is_started_elsewhere_if_there_is_an_elsewhere() -> None:
    cards = Cards(number=3)
    lease = cards.take(0, 1, without=[0, 1])
    assert lease is not None
    assert lease.cards == (2,)
    assert cards.take(1, 1, without=[2]) is not None
    only = Cards(number=1)
    assert only.take(0, 1, without=[0]) is not None


def test_a_trial_that_failed_in_every_ring_starts_again_all_the_same() -> None:
    cards = Cards(number=8, fits=in_rings_of_four)
    lease = cards.take(0, 4, without=[1, 5])
    assert lease is not None
    assert len(lease.cards) == 4
    assert cards.take(1, 4) is not None
    cards.end(0)
    # The other ring is waited for, though it is busy.
    assert cards.take(2, 4, without=lease.cards[:1]) is None


def test_cards_kept_for_a_trial_that_no_longer_wants_them_are_free_again() -> None:
    cards = Cards(number=2, patience=0)
    assert cards.take(0, 1)
    assert cards.take(1, 2) is None
    assert cards.waiting == 1
    assert cards.take(1, 2) is None  # passed often enough: both cards are kept for it
    assert cards.take(2, 1) is None
    cards.give_up(1)
    assert cards.take(2, 1) is not None


def test_cards_are_not_kept_where_the_trial_failed() -> None:
    cards = Cards(number=3, patience=0)
    for trial in range(3):
        cards.take(trial, 1)
    for _ in range(2):
        assert cards.take(9, 1, without=[0]) is None
    cards.end(0)
    assert cards.take(9, 1, without=[0]) is None
    assert cards.take(10, 1) is not None
