"""An audit of anyone's predictions: `flipjax audit --logits DIR|FILE --labels DIR|FILE`; no flipjax model."""
