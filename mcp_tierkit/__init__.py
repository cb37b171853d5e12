"""mcp-tierkit: an MCP server that gives a coding agent cheaper hands and referees what they do."""

__version__ = "0.1.0"
