"""What the tests share: servers, processes, journals of handler runs, and waiting."""
