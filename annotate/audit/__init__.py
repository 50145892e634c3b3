"""How good H_ka is, measured against the simulator's truth, and whether it looks broken."""

from semore.annotate.audit.knowledge import audit_knowledge

__all__ = ["audit_knowledge"]
