"""Who checked what, over which bytes: signatures, manifests, certificates, and the chain of custody behind them."""
