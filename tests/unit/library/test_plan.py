"""A plan as a value: several in one, what it says of many devices, and as plain data."""

from __future__ import annotations

import pytest

import pyvfio
from pyvfio.binding import Finding, Plan
from pyvfio.binding.findings import UNSEEN
from pyvfio.binding.probes import PROBES
from pyvfio.binding.step import Step
from pyvfio.binding.steps import Bind
from pyvfio.errors import DeviceInUse


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


def test_a_member_of_several_devices_is_told_once() -> None:
    """And not at all when the plan is about it: its own facts are there."""
    names = [f"0000:3b:00.{number}" for number in range(4)]
    members = {name: f"{name} (nvme): in the way" for name in names}
    plans = [one(name, ("driver", "nvme"), *(("member", members[o]) for o in names if o != name)) for name in names[:3]]
    assert Plan.join(plans, "some").facts == (
        ("0000:3b:00.0: driver", "nvme"),
        ("0000:3b:00.0: member", members[names[3]]),
        ("0000:3b:00.1: driver", "nvme"),
        ("0000:3b:00.2: driver", "nvme"),
    )


STEP: Step = Bind("pci", "0000:3b:00.0", "vfio-pci")


def refusal(*findings: tuple[str, str]) -> str:
    found = tuple(Finding(probe, "0000:3b:00.0", summary) for probe, summary in findings)
    with pytest.raises(DeviceInUse) as caught:
        Plan("bind", ("0000:3b:00.0",), (STEP,), findings=found).refuse()
    return caught.value.next_step


@pytest.mark.parametrize("probe", PROBES)
def test_a_refusal_says_what_would_end_each_use(probe: str) -> None:
    first, line = refusal((probe, "in use")).splitlines()
    assert first == f"end that use; or override it knowingly with --force={probe}"
    assert line.split(": ")[0].strip() == probe
    assert len(line.split(": ", 1)[1]) > 10


def test_nobody_is_told_to_wipe_what_is_in_use() -> None:
    assert "wipefs" in refusal(("signature", "content"))
    assert "wipefs" not in refusal(("mounted", "mounted"), ("signature", "content"))


def test_what_could_not_be_seen_is_looked_at_as_root() -> None:
    assert refusal(("open", UNSEEN)).splitlines()[1].strip() == "open: look as root"


def test_release_lets_the_kernel_find_a_driver_again_after_an_unbind() -> None:
    with pyvfio.Host("software", machine="s390x-server") as host:
        function = host.device("0005:00:00.0")
        plan = pyvfio.plan_unbind(function)
        assert plan.notes == ("0005:00:00.0 then has no driver: pyvfio release lets the kernel find its own one again",)
        pyvfio.run(plan)
        assert function.driver is None
        pyvfio.run(pyvfio.plan_release(function))
        assert function.driver == "virtio-pci"
        assert pyvfio.plan_release(function).empty
        pyvfio.run(pyvfio.plan_bind(function))
        plan = pyvfio.plan_unbind(function)
        assert "its driver_override stays vfio-pci" in plan.notes[0]
        pyvfio.run(plan)
        pyvfio.run(pyvfio.plan_release(function))
        assert (function.driver, function.override) == ("virtio-pci", None)
