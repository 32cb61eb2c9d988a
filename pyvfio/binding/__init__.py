"""Binding as a plan: facts, steps with inverses, and what happens when one fails."""

from pyvfio.binding.channel import Taken, ccw_give_back, ccw_take, plan_ccw_give_back, plan_ccw_take
from pyvfio.binding.facts import BindingFacts, facts
from pyvfio.binding.findings import Evidence, Finding
from pyvfio.binding.journal import Record, records
from pyvfio.binding.plan import Plan
from pyvfio.binding.restoring import restore
from pyvfio.binding.running import run, undo
from pyvfio.binding.step import Event, Phase, Progress, Step, step_from_dict
from pyvfio.binding.verbs import bind, plan_bind, plan_release, plan_unbind, release, unbind

__all__ = [
    "BindingFacts",
    "Event",
    "Evidence",
    "Finding",
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
    "plan_bind",
    "plan_ccw_give_back",
    "plan_ccw_take",
    "plan_release",
    "plan_unbind",
    "records",
    "release",
    "restore",
    "run",
    "step_from_dict",
    "unbind",
    "undo",
]
