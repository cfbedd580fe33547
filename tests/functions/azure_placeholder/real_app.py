"""What ``PYTHON_SCRIPT_FILE_NAME`` names once the environment is known."""

from shared import app_of_it

app = app_of_it()
