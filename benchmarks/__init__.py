"""What Greenroom costs beside its peers, as CPU time per operation; `make bench` runs it."""
