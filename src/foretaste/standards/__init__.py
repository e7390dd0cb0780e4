"""What a scan knows, in the words of others: Croissant, the Data Provenance Standards, and lists of risks."""
