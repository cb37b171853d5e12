SELECT count(*), coalesce(sum(cents), 0) FROM orders WHERE placed_at >= :start AND placed_at < :stop;
