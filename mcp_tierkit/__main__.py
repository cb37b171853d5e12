"""`python -m mcp_tierkit` is `mcp-tierkit`."""

from mcp_tierkit.entry import main

if __name__ == "__main__":
    main()
