/** The texts in English, by what they are in Chinese. */
export const english: Record<string, string> = {};
