"""Binding as a plan: facts, steps with inverses, and what happens when one fails.

The names below are loaded when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.binding.facts import BindingFacts, facts  # not when it is used: the function is called as its module
from pyvfio.lazy_names import lazy_names

if TYPE_CHECKING:
    from pyvfio.binding.access import Grantee, grant, grantee, plan_grant, udev_rule
    from pyvfio.binding.channel import Taken, ccw_give_back, ccw_take, plan_ccw_give_back, plan_ccw_take
    from pyvfio.binding.findings import Evidence, Finding
    from pyvfio.binding.journal import Record, records
    from pyvfio.binding.mediated import plan_mdev_attributes, plan_mdev_create, plan_mdev_remove
    from pyvfio.binding.plan import Plan
    from pyvfio.binding.restoring import restore
    from pyvfio.binding.running import run, undo
    from pyvfio.binding.step import Event, Phase, Progress, Step, step_from_dict
    from pyvfio.binding.verbs import bind, plan_bind, plan_release, plan_unbind, release, unbind
    from pyvfio.binding.virtual import plan_virtual_functions, set_virtual_functions, wait_for_virtual_functions

_HOMES = {
    "access": "Grantee grant grantee plan_grant udev_rule",
    "channel": "Taken ccw_give_back ccw_take plan_ccw_give_back plan_ccw_take",
    "findings": "Evidence Finding",
    "journal": "Record records",
    "mediated": "plan_mdev_attributes plan_mdev_create plan_mdev_remove",
    "plan": "Plan",
    "restoring": "restore",
    "running": "run undo",
    "step": "Event Phase Progress Step step_from_dict",
    "verbs": "bind plan_bind plan_release plan_unbind release unbind",
    "virtual": "plan_virtual_functions set_virtual_functions wait_for_virtual_functions",
}

__all__ = [
    "BindingFacts",
    "Event",
    "Evidence",
    "Finding",
    "Grantee",
    "Phase",
    "Plan",
    "Progress",
    "Record",
    "Step",
    "Taken",
    "bind",
    "ccw_give_back",
    "ccw_take",
    "facts",
    "grant",
    "grantee",
    "plan_bind",
    "plan_ccw_give_back",
    "plan_ccw_take",
    "plan_grant",
    "plan_mdev_attributes",
    "plan_mdev_create",
    "plan_mdev_remove",
    "plan_release",
    "plan_unbind",
    "plan_virtual_functions",
    "records",
    "release",
    "restore",
    "run",
    "set_virtual_functions",
    "step_from_dict",
    "udev_rule",
    "unbind",
    "undo",
    "wait_for_virtual_functions",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
