"""Offers and bids travel as data, and grow by addition."""

import pytest

from hanse.contracts import AgentId, AwardId, Bid, CapabilityName, Offer
from hanse.contracts.plain import pack, unpack

OFFER = Offer(
    AgentId("a"),
    3,
    {CapabilityName("a.b"): 1.5},
    {CapabilityName("a.b"): 2.0},
    False,
    "disk is full",
    [AwardId("t/s#1")],
)
BID = Bid(AgentId("a"), "1.2", 2.5, 3.0, 4, 0.75, "closed")


def test_an_offer_and_a_bid_come_back():
    assert Offer.from_data(unpack(pack(OFFER.to_data()))) == OFFER
    assert Bid.from_data(unpack(pack(BID.to_data()))) == BID


def test_every_field_is_written():
    assert OFFER.to_data().keys() == set(Offer.__slots__)
    assert BID.to_data().keys() == set(Bid.__slots__)


def test_what_a_newer_agent_says_is_ignored_and_what_an_older_one_leaves_out_has_its_default():
    assert Offer.from_data({**OFFER.to_data(), "carbon": 1}) == OFFER
    assert Offer.from_data({"agent": "a"}) == Offer(AgentId("a"))
    assert Bid.from_data({**BID.to_data(), "carbon": 1}) == BID


def test_what_must_be_there_must_be_there():
    with pytest.raises(TypeError, match="agent"):
        Offer.from_data({})
    with pytest.raises(TypeError, match="version"):
        Bid.from_data({"agent": "a"})
