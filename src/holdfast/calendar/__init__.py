"""Cron in the dialect of AWS schedules, and time zones; pure."""
