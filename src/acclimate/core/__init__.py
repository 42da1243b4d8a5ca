"""The ground floor: errors, names, seeds, device, recipe and run folder; it imports nothing of the other floors."""
