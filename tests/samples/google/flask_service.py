"""A Flask service on Cloud Run, with a blueprint and an error handler."""

from fake_model import complete
from flask import Blueprint, Flask, abort, jsonify

from trace_guard_gcf import GuardMiddleware

orders = Blueprint("orders", __name__, url_prefix="/orders")


@orders.get("/<int:order>")
def read_order(order):
    if order == 0:
        abort(404)
    return jsonify(order=order, note=complete("fail" if order == 13 else f"order {order}"))


def busy(error):
    return jsonify(error="busy"), 503


app = Flask(__name__)
app.register_blueprint(orders)
app.register_error_handler(RuntimeError, busy)
app.wsgi_app = GuardMiddleware(app.wsgi_app)
