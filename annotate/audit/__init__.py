"""The audit of H_ka against the simulator's truth."""

from semore.annotate.audit.knowledge import audit_knowledge

__all__ = ["audit_knowledge"]
