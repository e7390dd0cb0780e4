"""Great Expectations: importing this package registers the expectations."""
