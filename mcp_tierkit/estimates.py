"""What a piece of work would cost on each route, and from which size on handing it over pays."""
