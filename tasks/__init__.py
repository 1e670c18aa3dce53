"""Stages and what they compute with. Whatever imports it computes with threads that sleep while they wait."""

from tasks.common.threads import sleep_while_waiting

sleep_while_waiting()  # here, because torch reads the settings when it is first imported
