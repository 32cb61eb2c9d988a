"""A plan as a value: several in one, what it says of many devices, and as plain data."""

from __future__ import annotations

from pyvfio.binding import Plan


def one(name: str, *facts: tuple[str, str]) -> Plan:
    return Plan(f"bind {name} to vfio-pci", (name,), facts=tuple((f"{name}: {what}", value) for what, value in facts))


def test_a_few_are_named_and_of_many_the_first() -> None:
    plans = [one(f"000{number}:00:00.0") for number in range(1, 6)]
    few, many = Plan.join(plans[:3]), Plan.join(plans)
    assert few.obj == "0001:00:00.0, 0002:00:00.0, 0003:00:00.0"
    assert many.obj == "0001:00:00.0, 0002:00:00.0, and 3 more"
    assert many.title == "bind 0001:00:00.0 to vfio-pci; bind 0002:00:00.0 to vfio-pci; and 3 more"
    assert len(many.objects) == 5, "the plan itself knows all of them"
    assert Plan.join(plans, "all of it").title == "all of it"


def test_facts_of_one_kind_are_all_there_as_data() -> None:
    plan = one("0000:3b:00.0", ("driver", "nvme"), ("member", "0000:3b:00.1"), ("member", "0000:3b:00.2"))
    assert plan.as_dict()["facts"] == [
        {"device": "0000:3b:00.0", "what": "driver", "value": "nvme"},
        {"device": "0000:3b:00.0", "what": "member", "value": "0000:3b:00.1"},
        {"device": "0000:3b:00.0", "what": "member", "value": "0000:3b:00.2"},
    ]
