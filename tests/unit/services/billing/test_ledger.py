"""Debits are credits, balances stay above their floor, and nothing is lost on the way."""

from hypothesis import given
from hypothesis import strategies as st

from moonpool.services.billing.ledger import Account, Book, Kind, Line, Terms, charge, credit

AMOUNTS = st.integers(1, 10**12)
STEPS = st.lists(st.tuples(st.sampled_from(["usage", "top_up", "grant"]), AMOUNTS), max_size=40)


def run(steps: list[tuple[str, int]], terms: Terms) -> tuple[Book, dict[str, int]]:
    book, sums = Book(), {"usage": 0, "top_up": 0, "grant": 0}
    for what, amount in steps:
        lines = charge(book, amount, terms) if what == "usage" else credit(Kind(what), amount)
        assert sum(line.debit for line in lines) == sum(line.credit for line in lines) == amount
        book.post(lines)
        sums[what] += amount
        if terms.enforce:
            assert book.balance >= -terms.overdraft
            assert book.owed(Account.GRANTED) >= 0
    return book, sums


@given(STEPS, st.integers(0, 10**12), st.booleans())
def test_the_books_balance_whatever_happens(steps, overdraft: int, enforce: bool) -> None:
    book, sums = run(steps, Terms(overdraft, enforce))
    assert sum(book.owed(account) for account in Account) == 0
    assert sum(debits for _, debits, _ in book.sums()) == sum(credits for _, _, credits in book.sums())
    assert book.owed(Account.REVENUE) == sums["usage"]
    assert -book.owed(Account.PAYMENTS) == sums["top_up"]
    assert -book.owed(Account.PROMOTIONS) == sums["grant"]
    uncollected = -book.owed(Account.UNCOLLECTED)
    assert book.balance == sums["top_up"] + sums["grant"] - sums["usage"] + uncollected
    assert uncollected == 0 or enforce


def test_what_was_granted_is_spent_first() -> None:
    book = Book()
    book.post(credit(Kind.TOP_UP, 100))
    book.post(credit(Kind.GRANT, 30))
    assert charge(book, 50, Terms()) == (
        Line(Account.GRANTED, 30, 0),
        Line(Account.TOPPED_UP, 20, 0),
        Line(Account.REVENUE, 0, 50),
    )


def test_the_overdraft_is_the_end() -> None:
    book = Book()
    book.post(credit(Kind.TOP_UP, 10))
    book.post(charge(book, 100, Terms(overdraft=5)))
    assert book.balance == -5
    assert -book.owed(Account.UNCOLLECTED) == 85
    book.post(charge(book, 7, Terms(overdraft=5)))
    assert (book.balance, -book.owed(Account.UNCOLLECTED)) == (-5, 92)


def test_an_overdraft_that_was_lowered_takes_nothing_more() -> None:
    book = Book()
    book.post(charge(book, 8, Terms(overdraft=10)))
    book.post(charge(book, 8, Terms(overdraft=3)))
    assert book.balance == -8


def test_without_enforcement_balances_fall() -> None:
    book = Book()
    book.post(charge(book, 8, Terms(enforce=False)))
    assert (book.balance, book.owed(Account.UNCOLLECTED)) == (-8, 0)


def test_a_credit_is_taken_back() -> None:
    book = Book()
    book.post(credit(Kind.TOP_UP, 10))
    book.post(credit(Kind.TOP_UP, -4))
    assert (book.balance, -book.owed(Account.PAYMENTS)) == (6, 6)
