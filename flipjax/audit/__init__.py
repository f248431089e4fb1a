"""An audit of anyone's predictions: `python -m flipjax.audit --logits DIR|FILE --labels DIR|FILE`; no flipjax model."""
