CREATE TABLE orders (placed_at TEXT, cents REAL);
INSERT INTO orders VALUES ('2024-03-05', 12.5);
