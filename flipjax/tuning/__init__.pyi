from .conduct import tune as tune
from .draws import RANGES as RANGES
from .draws import DrawRange as DrawRange
from .draws import draw_settings as draw_settings
from .tuned import Tuned as Tuned
