"""What options there are, what each may be and means: for the check of options, the JSON schema and the reference."""
from basicsr_nriqa.option_definitions.option import Option, option_problems

__all__ = ['Option', 'option_problems']
