"""What an automation has to do, and what is remembered of it beside its collection's log."""
