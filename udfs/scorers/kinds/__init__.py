"""The scorers of this package, a file each; `registry` names them."""
