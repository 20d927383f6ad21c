import logging

from supabase import Client

logger = logging.getLogger(__name__)


async def base_currency(supabase: Client, user_id: str) -> str:
    try:
        result = await supabase.table("profiles").select("currency").eq("id", user_id).execute()
        return result.data[0]["currency"]
    except Exception as e:  # expect: FS001
        logger.error("profile of %s: %s", user_id, e)
        return "USD"
