from .draws import RANGES as RANGES
from .draws import DrawRange as DrawRange
from .draws import draw_settings as draw_settings
from .protocol import Tuned as Tuned
from .protocol import tune as tune
