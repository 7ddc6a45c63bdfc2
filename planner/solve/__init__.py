"""The joint model, solved exactly, checked independently, explained."""
