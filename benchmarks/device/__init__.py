"""Jobs for one accelerator that wait for a card; README.md has them in a table."""
