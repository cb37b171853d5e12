import attr
import requests, urllib3, yaml
from google.cloud import storage
import numpy.linalg
from shop import cart
try:
    import simplejson
except ImportError:
    import json
