"""`flipjax evaluate`: an audit of converted weights on a configuration's images."""
