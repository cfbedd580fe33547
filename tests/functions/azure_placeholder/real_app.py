"""The app that ``PYTHON_SCRIPT_FILE_NAME`` names once the environment is set."""

from shared import app_of_it

app = app_of_it()
