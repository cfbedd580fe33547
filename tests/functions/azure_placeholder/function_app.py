"""The app that the placeholder loads."""

from shared import app_of_it

app = app_of_it()
