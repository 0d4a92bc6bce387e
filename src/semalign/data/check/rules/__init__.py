"""One small function per finding: each takes the evidence and yields what it has found; `findings` has their table."""
