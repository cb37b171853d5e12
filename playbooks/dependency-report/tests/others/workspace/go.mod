module example.com/shop

require (
	example.com/a v1.0.0
	example.com/b v0.1.0 // indirect
)
require example.com/c v1.1.0
