"""Stages, and the pure code that they call. Importing it makes threads sleep while they wait."""

from tasks.common.threads import sleep_while_waiting

sleep_while_waiting()  # here, because torch reads the settings when it is first imported
