"""The smallest server the SDK allows: what ours is compared with."""

from mcp.server import MCPServer

mcp = MCPServer("minimal")


@mcp.tool()
def noop(x: int = 0) -> int:
    """Nothing."""
    return x


if __name__ == "__main__":
    mcp.run()
