from app.core import html
import app.core as core


def show():
    return html.escape(core.json.dumps(1))
