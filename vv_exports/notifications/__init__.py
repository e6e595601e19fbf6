"""Telling people and programs what becomes of automations: once for each change of state, never once for each retry.

``situation`` is how an automation is, ``news`` what of that was not told yet, ``outbox`` what was told and what is
still to be sent, ``sending`` how it is sent, and ``notifier`` all of it together. What was told is kept in the
pipeline's storage, and the delivery log says what was delivered: nothing is lost with a process.
"""
